"""Check that a wheel holds the package, the license and the metadata, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

METADATA = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt"}


def main(wheel: Path) -> None:
    package = {path.as_posix() for path in Path("llmcache").rglob("*.py")}
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    wanted = package | {"llmcache/py.typed"} | {f"{info}/{name}" for name in METADATA}
    with ZipFile(wheel) as archive:
        held = set(archive.namelist())
    if held != wanted:
        missing, surplus = sorted(wanted - held), sorted(held - wanted)
        sys.exit(f"{wheel.name} lacks {missing} and should not hold {surplus}")
    print(f"{wheel.name} holds {len(held)} files, as it should")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
