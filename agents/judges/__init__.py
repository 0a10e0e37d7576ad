"""Networks of judges over pairs of answers, and the statistics that say how far to trust them."""
