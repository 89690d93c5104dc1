"""What `aistack doctor` looks at, one diagnosis a file; a new one is a file and its line here."""

from aistack.operations.diagnoses import (
    certificate,
    clock,
    disk,
    graphics,
    memory,
    models,
    ports,
    processor,
    programs,
    secrets,
    services,
)
from aistack.operations.diagnoses.base import Diagnosis

DIAGNOSES: tuple[tuple[str, Diagnosis], ...] = (
    ("programs", programs.diagnose),
    ("processor", processor.diagnose),
    ("memory", memory.diagnose),
    ("models", models.diagnose),
    ("disk", disk.diagnose),
    ("graphics", graphics.diagnose),
    ("clock", clock.diagnose),
    ("ports", ports.diagnose),
    ("certificate", certificate.diagnose),
    ("secrets", secrets.diagnose),
    ("services", services.diagnose),
)
