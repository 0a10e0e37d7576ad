"""Cases from outside, as a package: their conftest is then outside.conftest, and `conftest` stays the tests' own."""

HELD = ""
"""In place of a row: the case was right from the first, and must stay so."""
