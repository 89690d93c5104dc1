"""The model store: what lies in `models/`, how it gets there, and the two models that are built in."""
