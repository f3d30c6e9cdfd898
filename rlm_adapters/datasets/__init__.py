"""Ask one question about the rows of a data set; see docs/map.md."""
