"""Cases from outside, as a package: their conftest is then outside.conftest, and `conftest` stays the tests' own."""
