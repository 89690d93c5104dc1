"""The command line: what it does with people's mistakes, and what it promises for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from aistack.cli.main import commands

CHANGING = {
    "init", "up", "down", "restart", "models pull", "models import", "models rm", "keys create", "keys revoke",
    "keys update", "keys rotate", "nodes drain", "nodes resume", "move",
}  # fmt: skip


def aistack(home: Path, *arguments: str, answers: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("aistack"), *arguments],
        env={**os.environ, "AISTACK_HOME": str(home), **environment}, capture_output=True, text=True, input=answers,
    )  # fmt: skip


def write(home: Path, text: str) -> Path:
    (home / "config").mkdir(exist_ok=True)
    path = home / "config" / "stack.toml"
    path.write_text(text)
    return path


def tree(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def every_command(group: click.Group, before: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        inner = every_command(command, f"{name} ") if isinstance(command, click.Group) else {f"{before}{name}": command}
        found |= {} if command.hidden else inner
    return found


def test_a_missing_stack_toml_is_two_lines_and_exit_status_1(tmp_path: Path) -> None:
    done = aistack(tmp_path, "status")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: there is no {tmp_path}/config/stack.toml",
        "hint: run `aistack init` to write one",
    ]
    assert done.stdout == ""


def test_every_mistake_in_stack_toml_is_shown_at_once(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "stack.toml").write_text('[engine]\nprot = 1\nkind = "x"\n[chat]\nport = 70000\n')
    done = aistack(tmp_path, "check")
    assert done.returncode == 1
    assert "3 mistakes" in done.stderr
    for part in ("engine.prot: there is no such key; did you mean port?", "engine.kind:", "chat.port:"):
        assert part in done.stderr


def test_init_writes_a_file_that_check_takes_and_never_replaces_one(tmp_path: Path) -> None:
    assert aistack(tmp_path, "init", "--defaults").returncode == 0
    written = (tmp_path / "config" / "stack.toml").read_text()
    assert aistack(tmp_path, "check").returncode == 0
    again = aistack(tmp_path, "init", "--defaults")
    assert again.returncode == 1
    assert "already" in again.stderr
    assert aistack(tmp_path, "init", "--defaults", "--if-missing").returncode == 0
    assert (tmp_path / "config" / "stack.toml").read_text() == written


def test_an_unknown_service_names_those_there_are(tmp_path: Path) -> None:
    aistack(tmp_path, "init", "--defaults")
    done = aistack(tmp_path, "logs", "ollama")
    assert done.returncode == 1
    assert "engine" in done.stderr


@pytest.mark.parametrize("name", sorted(set(every_command(commands)) - {"completion"}))
def test_what_reads_has_json_and_what_changes_has_a_dry_run(name: str) -> None:
    options = {option for parameter in every_command(commands)[name].params for option in parameter.opts}
    assert ("--dry-run" if name in CHANGING else "--json") in options


def test_a_model_that_no_hub_could_have_is_told_with_the_other_mistakes(tmp_path: Path) -> None:
    write(tmp_path, '[models]\nchat = "a/b/c/d/e"\n[engine]\nprot = 1\n')
    told = json.loads(aistack(tmp_path, "check", "--json").stdout)
    assert [problem.partition(":")[0] for problem in told["problems"]] == ["engine.prot", "models.chat"]


@pytest.mark.parametrize("command", ["check", "up"])
def test_a_certificate_that_is_not_there_is_a_mistake(tmp_path: Path, command: str) -> None:
    write(tmp_path, '[proxy]\ncertificate = "/nowhere/c.pem"\ncertificate_key = "/nowhere/c.key"\n')
    done = aistack(tmp_path, command)
    assert done.returncode == 1
    assert "proxy.certificate: /nowhere/c.pem is not there" in done.stderr
    assert "proxy.certificate_key: /nowhere/c.key is not there" in done.stderr


def test_doctor_sees_that_the_sites_certificate_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, '[proxy]\ncertificate = "/nowhere/c.pem"\ncertificate_key = "/nowhere/c.key"\n')
    findings = json.loads(aistack(tmp_path, "doctor", "--json").stdout)
    assert [one["message"] for one in findings if one["check"] == "certificate"] == [
        "there is no certificate at /nowhere/c.pem"
    ]


def test_doctor_looks_at_the_keys_of_the_authority(tmp_path: Path) -> None:
    write(tmp_path, "")
    (tmp_path / "config" / "tls").mkdir()
    key = tmp_path / "config" / "tls" / "root.key"
    key.write_text("x")
    key.chmod(0o644)
    findings = json.loads(aistack(tmp_path, "doctor", "--json").stdout)
    assert f"{key} can be read by others" in next(one["message"] for one in findings if one["check"] == "secrets")


def test_doctor_counts_what_the_chosen_model_needs_and_what_is_still_to_be_installed(tmp_path: Path) -> None:
    write(tmp_path, '[models]\nchat = "hf.co/Qwen/Qwen3-30B-A3B-GGUF:Q4_K_M"\n')
    findings = {one["check"]: one for one in json.loads(aistack(tmp_path, "doctor", "--json").stdout)}
    assert "23.3 GiB" in findings["memory"]["message"]
    assert "7 GiB needed" in findings["disk"]["message"]
    write(tmp_path, '[models]\nchat = "demo"\n')
    findings = {one["check"]: one for one in json.loads(aistack(tmp_path, "doctor", "--json").stdout)}
    assert "3 GiB needed" in findings["memory"]["message"]


@pytest.mark.parametrize("mistake", ["[engine]\nprot = 1\n", "[engine\n"])
def test_with_a_mistake_in_stack_toml_a_stack_can_still_be_looked_at_and_stopped(tmp_path: Path, mistake: str) -> None:
    write(tmp_path, mistake)
    logs = tmp_path / "data" / "logs"
    logs.mkdir(parents=True)
    (logs / "chat.log").write_text("hello\n")
    shown = aistack(tmp_path, "logs", "chat", "--json")
    assert json.loads(shown.stdout) == {"service": "chat", "line": "hello"}
    stopped = aistack(tmp_path, "down")
    assert (shown.returncode, stopped.returncode) == (0, 0)
    status = aistack(tmp_path, "status", "--json")
    assert {item["service"]: item["state"] for item in json.loads(status.stdout)}["chat"] == "missing"
    for done in (shown, stopped, status):
        assert done.stderr.startswith("warning: ")


def test_completion_says_nothing_but_names_whatever_is_wrong(tmp_path: Path) -> None:
    asked = {"_AISTACK_COMPLETE": "bash_complete", "COMP_WORDS": "aistack logs ", "COMP_CWORD": "2"}
    done = aistack(tmp_path, **asked)
    assert (done.stdout.strip(), done.stderr) == ("", "")
    write(tmp_path, "[engine]\nprot = 1\n")
    done = aistack(tmp_path, **asked)
    assert "plain,chat" in done.stdout.splitlines()
    assert done.stderr == ""


def test_init_asks_again_instead_of_losing_all_answers(tmp_path: Path) -> None:
    done = aistack(tmp_path, "init", answers="bad_name\nai.example\na/b/c/d/e\ndemo\nx\n8080\n9443\nnobody\na@b.org\n")
    assert done.returncode == 0, done.stderr
    for told in ("site.host_names.0", "models.chat", "proxy.https_port", "gateway.port", "site.administrator"):
        assert f"Error: {told}" in done.stderr
    assert "chat model demo\n" in done.stdout, "without the reason for the one that was suggested"
    written = (tmp_path / "config" / "stack.toml").read_text()
    for line in ('host_names = ["ai.example"]', 'chat = "demo"', "https_port = 9443", 'administrator = "a@b.org"'):
        assert f"\n{line}\n" in written


def test_init_by_force_keeps_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path, "# by hand\n")
    assert aistack(tmp_path, "init", "--defaults", "--force", "--dry-run").returncode == 0
    assert tree(tmp_path) == {path: b"# by hand\n"}
    assert aistack(tmp_path, "init", "--defaults", "--force").returncode == 0
    assert path.with_name("stack.toml.bak").read_text() == "# by hand\n"
    assert path.read_text() != "# by hand\n"


def test_keys_can_be_made_before_the_first_up_and_a_dry_run_makes_and_revokes_none(tmp_path: Path) -> None:
    write(tmp_path, "")
    assert aistack(tmp_path, "keys", "create", "laptop", "--dry-run").stdout == "laptop: would be made\n"
    assert json.loads(aistack(tmp_path, "keys", "ls", "--json").stdout) == []
    assert aistack(tmp_path, "keys", "create", "laptop").stdout.startswith("ask_")
    assert aistack(tmp_path, "keys", "revoke", "laptop", "--dry-run").stdout == "laptop: would be revoked\n"
    assert [key["revoked"] for key in json.loads(aistack(tmp_path, "keys", "ls", "--json").stdout)] == [None]
    assert aistack(tmp_path, "keys", "create", "laptop", "--dry-run").returncode == 1
    assert aistack(tmp_path, "keys", "revoke", "phone", "--dry-run").returncode == 1
    (database,) = (tmp_path / "data").rglob("gateway.db")
    assert database.stat().st_mode & 0o777 == 0o600


def test_a_dry_run_fetches_imports_and_removes_no_model(tmp_path: Path) -> None:
    write(tmp_path, "")
    file = tmp_path / "house.gguf"
    file.write_bytes(b"")
    before = tree(tmp_path)
    assert aistack(tmp_path, "models", "pull", "qwen3", "--dry-run").stdout == "qwen3: would be fetched\n"
    assert aistack(tmp_path, "models", "import", str(file), "--dry-run").stdout == "house: would be imported\n"
    assert aistack(tmp_path, "models", "rm", "qwen3", "--dry-run").returncode == 1
    assert tree(tmp_path) == before


def test_the_root_certificate_and_what_up_would_change_are_there_for_programs(tmp_path: Path) -> None:
    write(tmp_path, "")
    (tmp_path / "config" / "tls").mkdir()
    root = tmp_path / "config" / "tls" / "root.pem"
    root.write_text("PEM\n")
    assert json.loads(aistack(tmp_path, "ca", "--json").stdout) == {"path": str(root), "certificate": "PEM\n"}
    told = json.loads(aistack(tmp_path, "diff", "--json").stdout)
    assert "chat: open-webui would be installed" in told["programs"]
    assert {"service": "chat", "step": "start", "why": "not running"} in told["changes"]
    assert any(line.startswith("+++ b/nginx/nginx.conf") for line in told["files"])


def test_a_model_that_is_not_whole_is_listed_as_such(tmp_path: Path) -> None:
    aistack(tmp_path, "init", "--defaults")
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / "half.gguf").write_bytes(b"GGUF and no more")
    done = aistack(tmp_path, "models", "ls", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert f"{models}/half.gguf cannot be served" in done.stderr


def test_a_key_is_given_terms_changed_and_given_a_new_secret(tmp_path: Path) -> None:
    write(tmp_path, "")
    terms = ("--scope", "chat", "--model", "demo", "--tokens-per-day", "9", "--expires", "90d")
    first = json.loads(aistack(tmp_path, "keys", "create", "laptop", *terms, "--json").stdout)
    assert (first["scopes"], first["models"], first["limits"]) == (["chat"], ["demo"], {"tokens_per_day": 9})
    update = ("keys", "update", "laptop", "--model", "all", "--tokens-per-day", "site", "--expires", "never")
    assert aistack(tmp_path, *update, "--dry-run").stdout.startswith("laptop: would be changed")
    changed = json.loads(aistack(tmp_path, *update, "--json").stdout)
    assert (changed["id"], changed["models"], changed["limits"], changed["expires"]) == (first["id"], None, {}, None)
    second = json.loads(aistack(tmp_path, "keys", "rotate", "laptop", "--overlap", "1h", "--json").stdout)
    assert second["key"] != first["key"]
    assert second["old_secret_until"]
    shown = aistack(tmp_path, "keys", "show", "laptop").stdout
    assert first["id"] in shown
    assert second["key"] not in shown
    for wrong in (("update", "laptop"), ("update", "laptop", "--scope", "root"), ("rotate", "laptop", "--overlap", "x"),
                  ("show", "phone")):  # fmt: skip
        result = aistack(tmp_path, "keys", *wrong)
        assert (result.returncode, "Traceback" in result.stderr) == (1, False)


def test_usage_is_told_in_three_forms(tmp_path: Path) -> None:
    write(tmp_path, "")
    assert aistack(tmp_path, "usage").stdout.startswith("ID")
    assert aistack(tmp_path, "usage", "--by", "day", "--since", "30d", "--json").stdout == "[]\n"
    assert aistack(tmp_path, "usage", "--csv").stdout == "id,name,requests,prompt_tokens,completion_tokens\n"
    assert aistack(tmp_path, "usage", "--since", "yesterday").returncode == 1
    backwards = aistack(tmp_path, "usage", "--since", "2026-12-01", "--until", "2026-11-01")
    assert (backwards.returncode, backwards.stdout) == (1, "")
    assert "--until is not later than --since" in backwards.stderr


def test_the_library_of_the_database_is_not_imported_by_commands_without_one() -> None:
    heavy = ("sqlalchemy", "alembic", "psycopg")
    code = f"import sys, aistack.cli.main; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
