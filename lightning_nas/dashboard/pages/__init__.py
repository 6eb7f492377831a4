"""The pages, one module each: a function `show(page, key, ...)` that draws it."""
