"""What is installed: one name, `deltawire`, that holds everything once and stands beside whatever a program has."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
from email import message_from_bytes
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.sdist import SdistBuilder

import deltawire
from tests.support.processes import ROOT, clean_environment
from tests.support.running import complaints

FACADE = ROOT / "scripts" / "package" / "deltawire"


def run(*arguments: str | Path, cwd: Path = ROOT, path: Path | None = None) -> str:
    """What a program prints; it has to end well, and complain about nothing.

    Args:
        arguments: the program, and its own.
        cwd: where it runs.
        path: a folder whose modules it finds before those of this repository.
    """
    environment = clean_environment(**({} if path is None else {"PYTHONPATH": str(path)}))
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert (done.returncode, complaints(done.stderr)) == (0, []), done.stdout
    return done.stdout


def loaded_by(program: str) -> set[str]:
    """The modules that a program has loaded at its end."""
    return set(run(sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules, sep='\\n')").splitlines())


def build(target: str, source: Path, into: Path) -> Path:
    """The one file that building a wheel or an sdist makes."""
    hatchling = (sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", into)
    done = subprocess.run(hatchling, capture_output=True, text=True, check=False, cwd=source)
    assert done.returncode == 0, done.stderr
    [built] = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed; what it depends on is where this test finds it too."""
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
    run(*pip, "install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


def test_a_wheel_has_one_name_and_everything_below_it_once(wheel: Path) -> None:
    tree = {f"deltawire/{path.name}": path for path in FACADE.iterdir() if path.is_file()}
    for package in ("gateway", "protocol"):
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        tree |= {f"deltawire/{path.relative_to(ROOT)}": path for path in files}
    assert {"deltawire/py.typed", "deltawire/protocol/SPEC.md", "deltawire/gateway/cli/serve.py"} <= set(tree)
    with ZipFile(wheel) as archive:
        about = f"deltawire-{deltawire.__version__}.dist-info/"
        names = [name for name in archive.namelist() if not name.startswith(about)]
        assert sorted(names) == sorted(tree)
        assert {name: archive.read(name) for name in names} == {name: path.read_bytes() for name, path in tree.items()}


def test_a_wheel_says_its_version_its_licence_and_its_command(wheel: Path) -> None:
    about = f"deltawire-{deltawire.__version__}.dist-info"
    with ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"{about}/METADATA"))
        assert f"{about}/licenses/LICENSE" in archive.namelist()
        assert b"deltawire = deltawire.gateway.cli:main" in archive.read(f"{about}/entry_points.txt")
    assert (metadata["Name"], metadata["Version"]) == ("deltawire", deltawire.__version__)
    assert metadata["License-Expression"] == "MIT"


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The source tree that the sdist has."""
    with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / f"deltawire-{deltawire.__version__}"


def test_an_sdist_is_made_without_a_look_into_what_git_ignores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders come and go there meanwhile, as other tests install packages."""
    ignored = ROOT / "node_modules"  # `make clean` removes it; hatchling never looks into `.venv` and `.git`
    ignored.mkdir(exist_ok=True)
    looked_into: list[Path] = []
    scandir = os.scandir

    def look(path: str) -> object:
        looked_into.append(Path(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", look)
    files = {file.relative_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    assert "gateway/cli/serve.py" in files
    assert ROOT / "gateway" / "cli" in looked_into
    assert not [path for path in looked_into if path.is_relative_to(ignored)]


def test_a_wheel_made_of_the_sdist_is_the_wheel_made_of_the_tree(wheel: Path, unpacked: Path, tmp_path: Path) -> None:
    assert build("wheel", unpacked, tmp_path / "wheel").read_bytes() == wheel.read_bytes()


def test_an_editable_install_of_the_sdist_runs_what_is_edited(unpacked: Path, tmp_path: Path) -> None:
    for again in ("once", "twice"):
        with ZipFile(build("wheel:editable", unpacked, tmp_path / again)) as archive:
            path = Path(archive.read("_deltawire.pth").decode().strip())
    assert path.is_relative_to(unpacked)
    (unpacked / "gateway" / "edited.py").write_text("print('edited')")
    (unpacked / "protocol" / "edited.py").write_text("print('edited too')")
    program = "import deltawire.gateway.edited, deltawire.protocol.edited"
    assert run(sys.executable, "-c", program, cwd=tmp_path, path=path) == "edited\nedited too\n"
    assert run(sys.executable, "-m", "deltawire", "--version", cwd=tmp_path, path=path)


def test_a_wheel_made_of_what_the_container_is_given_is_the_wheel_made_of_the_tree(wheel: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    dockerfile = (ROOT / "scripts" / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    for names, target in re.findall(r"^COPY (?!--)(.+) (?!/)(\S+)$", dockerfile, re.MULTILINE):
        for name in names.split():
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / target, symlinks=True)
            else:
                shutil.copy(ROOT / name, source / target)
    assert build("wheel", source, tmp_path / "wheel").read_bytes() == wheel.read_bytes()


PROGRAM = """
import asyncio
import sys

import protocol
from deltawire import Gateway, Hub, Publisher, Settings, Subscriber, events


async def main():
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        async with Publisher(gateway.url, "demo") as publisher:
            await publisher.send(events.TextDelta(text="over a socket"))
            await publisher.close_stream()
        async with Subscriber(gateway.url, "demo") as subscriber:
            print(*[item.data.text async for item in subscriber if isinstance(item, events.TextDeltaEvent)])
    async with Hub() as hub:
        print(hub.create("demo").id)


asyncio.run(main())
print(protocol.WHOSE)
print(*{module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "deltawire"}, sep="\\n")
"""


def test_a_program_may_have_a_gateway_and_a_protocol_of_its_own(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "__init__.py").write_text("raise RuntimeError('the gateway of the program was imported')")
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol" / "__init__.py").write_text("WHOSE = 'the protocol of the program'")
    (tmp_path / "program.py").write_text(PROGRAM)
    text, stream, whose, *files = run(sys.executable, "program.py", cwd=tmp_path, path=installed).splitlines()
    assert (text, stream, whose) == ("over a socket", "demo", "the protocol of the program")
    assert len(files) > 50
    assert [file for file in files if not Path(file).is_relative_to(installed / "deltawire")] == []


def test_an_installed_command_and_the_module_tell_the_version(installed: Path, tmp_path: Path) -> None:
    said = f"deltawire {deltawire.__version__}\n"
    assert run(installed / "bin" / "deltawire", "--version", cwd=tmp_path, path=installed) == said
    assert run(sys.executable, "-m", "deltawire", "--version", cwd=tmp_path, path=installed) == said


def test_a_source_tree_that_is_not_installed_tells_the_version(tmp_path: Path) -> None:
    program = (
        "import runpy, sys\n"
        "from importlib import metadata\n"
        "metadata.version = None\n"  # there is none to ask
        "sys.argv = ['deltawire', '--version']\n"
        "runpy.run_module('deltawire', run_name='__main__')\n"
    )
    said = run(sys.executable, "-c", program, cwd=tmp_path, path=FACADE.parent)
    assert said == f"deltawire {deltawire.__version__}\n"


def test_tests_and_the_programs_that_they_start_run_this_checkout(tmp_path: Path) -> None:
    """Whichever is installed."""
    printed = run(sys.executable, "-c", "import deltawire; print(deltawire.__file__)", cwd=tmp_path)
    assert [Path(file).parent for file in (deltawire.__file__, printed)] == [FACADE, FACADE]


def test_the_version_is_semantic() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?", deltawire.__version__)


def imported_for_type_checkers() -> dict[str, str]:
    """The public names, and the module each is imported from under `if TYPE_CHECKING`."""
    tree = ast.parse((FACADE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def test_a_type_checker_finds_the_public_names_where_a_program_does() -> None:
    assert imported_for_type_checkers() == deltawire._MODULE_OF
    assert sorted(deltawire._MODULE_OF) == deltawire.__all__


def test_a_public_name_is_what_its_module_has() -> None:
    for name in deltawire.__all__:
        assert name in dir(deltawire)
        assert getattr(deltawire, name) is getattr(import_module(deltawire._MODULE_OF[name]), name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'deltawire' has no attribute 'Publishr'"):
        getattr(deltawire, "Publishr")  # noqa: B009 - a type checker refuses it in earnest


@pytest.mark.parametrize("name", ["gateway", "protocol", "gateway.config", "protocol.events"])
def test_in_the_repository_what_would_be_loaded_twice_says_what_to_import(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: import deltawire.{name.partition('.')[0]}:")


EVERYTHING = """
import os, pkgutil, sys
from collections import defaultdict
from importlib import import_module
import deltawire

for found in pkgutil.walk_packages(deltawire.__path__, "deltawire."):
    if not found.name.endswith(".__main__") and ".integrations." not in found.name:  # those need other programs
        import_module(found.name)
names = defaultdict(list)
for name, module in sys.modules.items():
    if file := getattr(module, "__file__", None):
        names[os.path.realpath(file)].append(name)
print(sum(name.startswith("deltawire.") for name in sys.modules))
print([several for several in names.values() if len(several) > 1 and any("deltawire" in it for it in several)])
"""


@pytest.mark.parametrize("where", ["tree", "wheel"])
def test_no_file_is_loaded_under_two_names(where: str, installed: Path) -> None:
    count, doubled = run(sys.executable, "-c", EVERYTHING, path=installed if where == "wheel" else None).splitlines()
    assert int(count) > 100
    assert doubled == "[]"


def test_the_package_alone_loads_nothing_that_takes_time() -> None:
    loaded = loaded_by("import deltawire")
    assert {name for name in loaded if name.startswith("deltawire")} == {"deltawire"}
    assert not loaded & {"asyncio", "msgspec", "websockets", "click", "httpx", "structlog"}


@pytest.mark.parametrize(
    ("names", "unneeded"),
    [
        ("Publisher, Subscriber", {"server", "hub", "streams", "access", "cli", "config", "logs"}),
        ("Settings", {"server", "hub", "streams", "access", "cli", "client"}),
        ("Hub", {"server", "access", "cli", "client"}),
        ("events", {"server", "hub", "streams", "access", "cli", "config", "logs", "client"}),
    ],
)
def test_a_program_loads_no_part_that_it_does_not_use(names: str, unneeded: set[str]) -> None:
    loaded = loaded_by(f"from deltawire import {names}")
    assert not loaded & {f"deltawire.gateway.{part}" for part in unneeded}


def test_a_gateway_loads_no_library_that_its_settings_do_not_ask_for() -> None:
    """They would take half as long again to load, and 10 MB."""
    loaded = loaded_by("import deltawire.gateway.cli.serve")
    assert "deltawire.gateway.server.gateway" in loaded
    assert not loaded & {"jwt", "cryptography", "httpx", "opentelemetry", "redis", "re2", "uvicorn"}
