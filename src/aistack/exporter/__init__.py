"""The stack's own exporter: numbers that no single service has, for Prometheus."""
