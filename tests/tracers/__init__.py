"""The tracers that people have, each beside a collector that runs here."""
