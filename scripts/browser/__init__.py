"""The console in a browser, for people who look at it and for tests.

- `chromium` — a browser without a window, and its tabs, driven over its DevTools protocol
- `first_paint` — how soon the console is there, and how much is loaded for it
- `screenshots` — those of the README
"""
