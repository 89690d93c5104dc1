"""The images that the machines of the tests start from: Debian 12 made on the spot, and the same with systemd.

No registry of images is asked. Packages come from where this machine takes its own: its apt, pip, proxy and
certificate settings are copied into the base, so that apt and pip work in there as they do out here.
"""

import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import SEARCH, Engine

BASE = "debian:12-slim"
_KEY = "aistack-test"
_RELEASE = "bookworm"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_SYSTEMD_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "libpam-systemd", "python3", "python3-venv", "sudo", "make", "git", "procps",
    "iproute2", "curl",
)  # fmt: skip
# systemd makes mounts shared at boot, but not in a container; without that LoadCredential= gives an empty folder.
_SYSTEMD = f"""\
FROM {BASE}
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \\
    {" ".join(_SYSTEMD_PACKAGES)} && apt-get clean && rm -rf /var/lib/apt/lists/*
RUN echo 'Defaults env_keep += "SSL_CERT_FILE PIP_CERT"' > /etc/sudoers.d/certificates
STOPSIGNAL SIGRTMIN+3
CMD ["sh", "-c", "mount --make-rshared / && exec /sbin/init"]
"""


def base_image(engine: Engine) -> str:
    """The tag of Debian 12 with this machine's package settings; made when it is not there (20 s)."""
    settings = {**_apt_files(), **_pip_files(), "/usr/local/share/ca-certificates/host.crt": _certificates()}
    recipe = [Path(__file__).read_text(), *(f"{path}\0{text}" for path, text in sorted(settings.items()))]
    key = hashlib.sha256("\0\0".join(recipe).encode()).hexdigest()
    if not engine.has_image(BASE, f"{_KEY}={key}"):
        root = engine.folder / "bootstrap"
        shutil.rmtree(root, ignore_errors=True)
        try:
            _bootstrap(root, _RELEASE, "ca-certificates")
            _settle(root, settings)
            _import(engine, root, key, BASE)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        # What an older base was built into has lost its use, and is large.
        engine.docker("image", "prune", "--force")
    return BASE


def systemd_image(engine: Engine) -> str:
    """The tag of the base with systemd, D-Bus, Python, sudo, make and git; made when it is not there (15 s)."""
    base_image(engine)
    folder = engine.folder / "systemd"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(_SYSTEMD)
    return engine.build("aistack-test/systemd", folder)


def release_image(engine: Engine, tag: str, release: str, *packages: str) -> str:
    """`tag`, another Debian release with `packages` and their programs; made when it is not there (30 s)."""
    key = f"{release} {' '.join(packages)}".replace(" ", ",")
    if not engine.has_image(tag, f"{_KEY}={key}"):
        root = engine.folder / "bootstrap"
        shutil.rmtree(root, ignore_errors=True)
        try:
            _bootstrap(root, release, ",".join(packages))
            _import(engine, root, key, tag)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    return tag


def local_package_folders() -> list[Path]:
    """Folders of packages on this machine that pip's settings name; a machine must see them at the same place."""
    settings = _pip_settings()
    named = " ".join(settings.get(key, "") for key in ("find-links", "index-url", "extra-index-url")).split()
    paths = [Path(word.removeprefix("file://")) for word in named if re.match(r"(file://)?/", word)]
    # The pages of an index below .../simple point to files beside that folder.
    return sorted({path.parent if path.name == "simple" else path for path in paths if path.exists()})


def _bootstrap(root: Path, release: str, packages: str) -> None:
    _run(["debootstrap", "--variant=minbase", f"--include={packages}", release, root, *_mirror()], timeout=900)


def _settle(root: Path, settings: dict[str, str]) -> None:
    for path, text in settings.items():
        target = root / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    _run(["chroot", root, "update-ca-certificates"], timeout=120)
    for keyring in Path("/usr/share/keyrings").glob("*.gpg"):
        if not (root / "usr/share/keyrings" / keyring.name).exists():
            shutil.copy(keyring, root / "usr/share/keyrings")
    for rest in ("var/lib/apt/lists", "var/cache/apt"):
        shutil.rmtree(root / rest)
        (root / rest).mkdir()


def _import(engine: Engine, root: Path, key: str, tag: str) -> None:
    environment = {"SSL_CERT_FILE": _BUNDLE, "PIP_CERT": _BUNDLE, **_proxies()}
    changes = [f"ENV {name}={value}" for name, value in environment.items()]
    changes += [f"LABEL {_KEY}={key}", 'CMD ["bash"]']
    archive = root.with_suffix(".tar")
    try:
        _run(["tar", "--directory", root, "--numeric-owner", "--create", "--file", archive, "."], timeout=300)
        engine.docker("import", *(f"--change={change}" for change in changes), str(archive), tag, timeout=300)
    finally:
        archive.unlink(missing_ok=True)


def _mirror() -> list[str]:
    """Where this machine takes the release from, for debootstrap; nothing when it runs another: Debian's own."""
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]).split("\n")
    return [line.split()[0] for line in listed if line.endswith(f" {_RELEASE}")][:1]


def _apt_files() -> dict[str, str]:
    acquire = _run(["apt-config", "dump", "--no-empty", "Acquire"]).splitlines()
    # IndexTargets say which lists desktop programs want.
    files = {"/etc/apt/apt.conf.d/99host": "\n".join(line for line in acquire if "::IndexTargets::" not in line) + "\n"}
    folder = Path("/etc/apt")
    copied = [*folder.glob("auth.conf"), *folder.glob("auth.conf.d/*.conf")]
    if _mirror():
        copied += [*folder.glob("sources.list"), *folder.glob("sources.list.d/*.list")]
        copied += [*folder.glob("sources.list.d/*.sources"), *folder.glob("preferences.d/*")]
        files["/etc/apt/sources.list"] = ""
    return files | {str(path): path.read_text() for path in copied}


def _pip_files() -> dict[str, str]:
    settings = {**_pip_settings(), "cert": _BUNDLE}
    lines = (f"{key} = {' '.join(value.split())}" for key, value in settings.items())
    files = {"/etc/pip.conf": "[global]\n" + "\n".join(lines) + "\n"}
    constraint = settings.get("constraint", "")
    return files | {path: Path(path).read_text() for path in constraint.split() if Path(path).is_file()}


def _pip_settings() -> dict[str, str]:
    """pip's settings for all commands, as pip itself sees them, by their names."""
    found = re.findall(
        r"^(:env:|global)\.([\w-]+)='(.*)'$", _run([sys.executable, "-m", "pip", "config", "list"]), re.M
    )
    # The environment is listed first, and wins.
    return {key: value.replace("\\n", " ") for _, key, value in reversed(found)}


def _certificates() -> str:
    named = ssl.get_default_verify_paths().cafile or _BUNDLE
    return Path(named).read_text()


def _proxies() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if re.fullmatch("(?i)(https?|no|all)_proxy", key)}


def _run(argv: Sequence[str | Path], timeout: float = 60) -> str:
    done = subprocess.run(
        argv, env={**os.environ, "PATH": SEARCH}, capture_output=True, text=True, timeout=timeout, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
