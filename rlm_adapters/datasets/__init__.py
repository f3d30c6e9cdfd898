"""One question over the rows of a data set; see docs/map.md."""
