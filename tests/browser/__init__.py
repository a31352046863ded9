"""Tests in a real browser: a package to pytest, too, or what is made once for it would last until all tests ended.

Whatever needs an event loop and comes after them in the same process would fail: see `tests.support.browser.chromium`.
"""
