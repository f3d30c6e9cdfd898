"""A virtual environment for each peer, with its newest version from PyPI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.peers.driver import load

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
_SHIMS = Path(__file__).parent / "shims"


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a peer is installed."""

    peer: str
    folder: Path
    version: str

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def variables(self) -> dict[str, str]:
        """Environment variables for its programs."""
        return {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ.get('PATH', '')}",
            "DENO_DIR": str(ENVIRONMENTS / "deno"),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it waits for a host on the internet
            "NO_PROXY": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
        }


def install(peer: str, *, again: bool = False) -> Environment:
    """The environment of a peer; made if it is not there.

    Args:
        peer: its name.
        again: take the newest versions even if there is one.

    Raises:
        subprocess.CalledProcessError: a package cannot be installed.
    """
    dialect = load(peer).DIALECT
    folder = ENVIRONMENTS / (dialect.environment or peer)
    ready = folder / ".installed"
    if again:
        ready.unlink(missing_ok=True)
    if not ready.exists():
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}") or "uv"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        packages = [one.format(ours=ROOT) for one in dialect.packages]
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", folder / "bin" / "python", *packages],
            check=True,
        )
        if dialect.deno:
            _wrap_deno(folder / "bin" / "deno")
        ready.touch()
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    found = next(iter(distributions(name=dialect.version_of, path=[str(site)])))
    return Environment(peer, folder, found.version)


def _wrap_deno(program: Path) -> None:
    """Let Deno find one module here that it would load from a host that not every machine reaches."""
    real = program.rename(program.with_name("deno-itself"))
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = run ] && {{ shift; set -- run "--import-map={_SHIMS / "import_map.json"}" "$@"; }}\n'
        f'exec "{real}" "$@"\n'
    )
    program.chmod(0o755)
