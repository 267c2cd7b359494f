"""One module a rule, and the catalogue that lists them."""
