"""What the tests read off a page: charts, colours, widths, the keyboard's focus."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# By the heading above it: its accessible name tells what it shows.
_ELEMENT = """heading => [...document.querySelectorAll('h2')].find(h2 => h2.innerText == heading)
  ?.closest('section').querySelector('.chart')"""
CHART = f"(heading => getElement(+({_ELEMENT})(heading).id.slice(1)).chart)"
_PAINTED = f"""heading => {{
  const canvas = ({_ELEMENT})(heading)?.querySelector('canvas');
  if (!canvas || !canvas.width) return false;
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return data.some((value, i) => i % 4 == 3 && value > 0);
}}"""
_BLANK = """() => [...document.querySelectorAll('.chart')].filter(chart => {
  if (!chart.checkVisibility()) return false;
  const canvas = chart.querySelector('canvas');
  if (!canvas || !canvas.width) return true;
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return !data.some((value, i) => i % 4 == 3 && value > 0);
}).map(chart => chart.ariaLabel)"""
_PROTRUDING = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width)
    .map(e => `${e.tagName} ${e.className} ${e.ariaLabel ?? ''} ${e.getBoundingClientRect().right}`);
}"""
# As WCAG 2.2 has it: relative luminance, and the ratio of the two. Texts that cannot be used are exempt.
_FAINT = """least => {
  const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number), one = text.startsWith('color(') ? 255 : 1;
    return [one * n[0], one * n[1], one * n[2], n[3] ?? 1]; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const x = c[i] / 255; return sum + weight * (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); }, 0);
  const behind = e => { const layers = [];
    for (; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255, 1]); };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const text = [...e.childNodes].filter(n => n.nodeType == 3).map(n => n.data.trim()).join(' ').trim();
    const style = getComputedStyle(e);
    if (!text || !e.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    if (e.closest('script, style, svg, canvas, i, :disabled, .disabled, [aria-disabled=true]')) continue;
    if (!e.getClientRects().length) continue;
    const ground = behind(e), ink = over(rgba(style.color), ground);
    const [a, b] = [light(ink), light(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)} (${style.color} on ${ground})`);
  }
  return found;
}"""
_FOCUS = """async () => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  e.wasReached = true;
  const field = e.closest('.q-field, .q-slider') ?? e;
  const look = () => [e, field, ...field.querySelectorAll('*')].flatMap(each => [null, '::before', '::after'].map(
    part => { const s = getComputedStyle(each, part);
      return [s.outlineStyle, s.outlineWidth, s.borderColor, s.borderWidth, s.boxShadow, s.transform].join();
    })).join();
  const before = look(), name = e.ariaLabel || e.innerText || e.closest('label')?.innerText || e.className;
  e.blur();
  await new Promise(resolve => setTimeout(resolve, 60));
  const after = look();
  e.focus({focusVisible: true});
  await new Promise(resolve => setTimeout(resolve, 20));
  return {name: name.trim().slice(0, 40), isMarked: before !== after};
}"""
_UNREACHED = """() => [...document.querySelectorAll(
    'a[href], button, input, select, textarea, [role=slider], [tabindex="0"]')]
  .filter(e => !e.wasReached && e.checkVisibility({visibilityProperty: true}))
  .filter(e => !e.closest('.ag-root, .ag-tab-guard, .disabled'))
  .filter(e => !e.disabled && e.tabIndex >= 0 && !e.querySelector('input') && e.type !== 'hidden')
  .map(e => (e.ariaLabel || e.innerText || e.className).slice(0, 40))"""


def option(page: Page, heading: str) -> dict[str, Any]:
    """The option that the first chart under a heading shows."""
    page.wait_for_function(_PAINTED, arg=heading)
    found: dict[str, Any] = page.evaluate(f"heading => {CHART}(heading).getOption()", heading)
    return found


def wait_for_charts(page: Page) -> None:
    """Waits until something is painted on each chart."""
    blank = _still(page, lambda: page.evaluate(_BLANK), 20)
    assert not blank, f"nothing is painted on {blank} of {page.url}"


def _still(page: Page, find: Callable[[], list[str]], seconds: float = 5) -> list[str]:
    """What is found time and again for that long; empty as soon as nothing is."""
    deadline = time.monotonic() + seconds
    while (found := find()) and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    return found


def protruding(page: Page) -> list[str]:
    """What makes the page wider than its window, if it stays so: a chart that has just come takes a moment."""
    return _still(page, lambda: page.evaluate(_PROTRUDING))


def faint(page: Page, least: float = 4.5) -> list[str]:
    """The visible texts with less contrast than that, colours that are just changing apart."""
    return _still(page, lambda: page.evaluate(_FAINT, least))


def focused(page: Page) -> dict[str, Any] | None:
    """What has the keyboard's focus: its `name`, and whether it looks other for it (`isMarked`)."""
    found: dict[str, Any] | None = page.evaluate(_FOCUS)
    return found


def unreached(page: Page) -> list[str]:
    """What can be used by mouse, but had not been `focused`. The grid has keys of its own."""
    found: list[str] = page.evaluate(_UNREACHED)
    return found


def rows(page: Page) -> list[dict[str, str]]:
    """The rows of the grid as they are shown, from the top: column to text."""
    found: list[dict[str, str]] = page.evaluate(
        """() => { const rows = {};
        for (const row of document.querySelectorAll('.ag-row')) {
          const cells = rows[+row.getAttribute('row-index')] ??= {};
          for (const cell of row.querySelectorAll('[role=gridcell]'))
            cells[cell.getAttribute('col-id')] = cell.innerText.trim();
        }
        return Object.keys(rows).sort((a, b) => a - b).map(index => rows[index]); }"""
    )
    return found


def choose(page: Page, label: str, choice: str) -> None:
    """Chooses in a list by its label."""
    field(page, label).click()
    page.get_by_role("option", name=choice, exact=True).click()


def field(page: Page, label: str) -> Locator:
    """An input or a list by its label."""
    return page.get_by_label(label, exact=True).last
