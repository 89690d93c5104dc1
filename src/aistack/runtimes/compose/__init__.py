"""The Compose runtime: a container for each service, from one `compose.yaml` that people can read and run, too."""
