"""The tables of an experiment's database. Values that are no plain column are JSON.

    experiment   what was asked for: space, strategy, objective, seed; written once
    runs         each time a driver worked on it: when, with which settings, on what machine
    trials       one row per trial, as it stands
    reports      the intermediate results, numbered from 0 within their trial
    changes      each change of a trial's status, with its reason and time

Times are Unix time in seconds. Metrics that are not finite are the strings "nan", "inf" and "-inf",
since JSON has no numbers for them.
"""

from __future__ import annotations

VERSION = 2
"""Kept in `PRAGMA user_version`."""

MIGRATIONS = {1: "ALTER TABLE trials ADD COLUMN budget INTEGER"}
"""What turns a database of a version into one of the next. Readers take what an older one lacks for NULL."""

APPLICATION = 0x4C4E4153
"""Kept in `PRAGMA application_id`: "LNAS"."""

TABLES = """
CREATE TABLE experiment (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started REAL NOT NULL,
    seen REAL NOT NULL,
    ended TEXT,
    settings TEXT NOT NULL,
    environment TEXT NOT NULL
);
CREATE TABLE trials (
    number INTEGER PRIMARY KEY,
    sample TEXT NOT NULL,
    status TEXT NOT NULL,
    metrics TEXT NOT NULL,
    score REAL,
    reason TEXT,
    traceback TEXT,
    started REAL,
    finished REAL,
    artifacts TEXT NOT NULL,
    budget INTEGER
);
CREATE TABLE reports (
    number INTEGER NOT NULL REFERENCES trials,
    position INTEGER NOT NULL,
    step INTEGER NOT NULL,
    metrics TEXT NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (number, position)
) WITHOUT ROWID;
CREATE TABLE changes (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES trials,
    status TEXT NOT NULL,
    reason TEXT,
    time REAL NOT NULL
);
CREATE INDEX changes_of_a_trial ON changes (number);
"""
