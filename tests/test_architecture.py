"""The import directions of the package, and what must not load torch."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from packaging.requirements import Requirement

import vqcodec

PACKAGE = Path(vqcodec.__file__).parent
ROOT = Path(__file__).parents[1]
STANDARD_LIBRARY_ONLY = [
    "errors",
    "arguments",
    "limits",
    "files",
    "folders",
    "watch",
    "container",
    "registry",
]
APART = ["models", "entropy", "container"]
# Each part may import what stands in the lines above it, and what stands beside it.
LAYERS = [
    [
        "errors",
        "ambient",
        "arguments",
        "limits",
        "files",
        "folders",
        "batch",
        "progress",
        "watch",
        "threads",
        "tiling",
        "container",
        "piece",
    ],
    ["spec"],
    ["kernels"],
    ["entropy", "models"],
    ["image", "registry", "photos", "resampling", "webp"],
    ["compiling"],
    ["weights_file"],
    ["syntheses"],
    ["tiles"],
    ["choosing"],
    ["codec"],
    ["lazy", "tokens"],
    ["pillow"],
    ["imageio"],
    ["drawing"],
    ["corpus"],
    ["training", "metrics"],
    ["bench"],
    ["cli"],
]
TOP = ["__init__", "__main__"]  # the package's face, which leads everywhere


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def imports(name: str, path: Path) -> set[str]:
    """Dotted names a module imports, inside functions too; `from a import b` gives a and a.b."""
    found: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def importers(package: str) -> set[str]:
    """Modules that import `package` or a part of it."""
    return {
        name
        for name, path in modules()
        if any(within(imported, package) for imported in imports(name, path))
    }


def part_of(name: str) -> str:
    """`entropy` for vqcodec.entropy.coder."""
    return [*name.split("."), "__init__"][1]


def test_every_module_has_its_layer() -> None:
    placed = [part for layer in LAYERS for part in layer] + TOP
    assert len(placed) == len(set(placed))
    found = {part_of(name) for name, _ in modules()} - {"weights"}  # files, where it is installed
    assert found == set(placed)


def test_imports_lead_up_only() -> None:
    height = {part: n for n, layer in enumerate(LAYERS) for part in layer}
    names = {name for name, _ in modules()}
    for name, path in modules():
        if part_of(name) in TOP:
            continue
        for imported in imports(name, path) & names - {"vqcodec"}:
            assert height[part_of(imported)] <= height[part_of(name)], f"{name} -> {imported}"


@pytest.mark.parametrize("part", APART)
def test_models_entropy_and_container_never_import_each_other(part: str) -> None:
    here = f"vqcodec.{part}"
    assert any(within(name, here) for name, _ in modules())
    for other in APART:
        if other != part:
            assert not {name for name in importers(f"vqcodec.{other}") if within(name, here)}


def test_only_entropy_imports_constriction() -> None:
    found = importers("constriction")
    assert found
    assert all(within(name, "vqcodec.entropy") for name in found)


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_only_kernels_import_compilers(package: str) -> None:
    found = importers(package)
    assert found
    assert all(within(name, "vqcodec.kernels") for name in found)


def test_training_is_imported_by_its_own_commands_only() -> None:
    outside = {
        name for name in importers("vqcodec.training") if not within(name, "vqcodec.training")
    }
    assert outside == {"vqcodec.cli.train", "vqcodec.cli.export"}


def test_the_benchmark_is_imported_by_the_commands_with_pages_only() -> None:
    outside = {name for name in importers("vqcodec.bench") if not within(name, "vqcodec.bench")}
    assert outside == {"vqcodec.cli.bench", "vqcodec.cli.gallery"}


def test_metrics_are_imported_by_commands_training_and_the_benchmark_only() -> None:
    able = ("metrics", "training", "bench", "cli")
    for name in importers("vqcodec.metrics"):
        assert any(within(name, f"vqcodec.{part}") for part in able), name


def test_only_the_corridor_and_above_know_the_corridor() -> None:
    above = {"vqcodec", "vqcodec.__main__"}
    able = ("lazy", "tokens", "pillow", "corpus", "bench", "cli")
    for name in importers("vqcodec.codec") - above:
        assert any(within(name, f"vqcodec.{part}") for part in able), name
    for name in importers("vqcodec.cli") - above:
        assert within(name, "vqcodec.cli"), name


@pytest.mark.parametrize("part", STANDARD_LIBRARY_ONLY)
def test_import_nothing_but_the_standard_library(part: str) -> None:
    allowed = sys.stdlib_module_names | {"vqcodec"}
    for imported in imports(f"vqcodec.{part}", PACKAGE / f"{part}.py"):
        assert imported.split(".")[0] in allowed
        if within(imported, "vqcodec"):
            assert imported.split(".")[1] in STANDARD_LIBRARY_ONLY


def test_tiling_and_image_import_no_torch() -> None:
    for name in importers("torch"):
        assert not within(name, "vqcodec.tiling")
        assert not within(name, "vqcodec.image")


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_the_spec_imports_neither_torch_nor_numpy(library: str) -> None:
    assert not {name for name in importers(library) if within(name, "vqcodec.spec")}


def test_the_float_and_the_integer_prior_share_the_spec() -> None:
    for part in ("cone", "prior"):
        found = importers(f"vqcodec.spec.{part}")
        assert {"vqcodec.models.prior", "vqcodec.entropy.prior"} <= found


def test_no_module_imports_pickle() -> None:
    for pickling in ("pickle", "cPickle", "dill", "joblib"):
        assert not importers(pickling)


def test_no_module_prints() -> None:
    """Standard output carries images and `.vqz` files; values go there through click."""
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            is_print = isinstance(node, ast.Name) and node.id == "print"
            assert not is_print, f"{name} prints"


def loaded_after(statement: str, environment: dict[str, str], folder: Path) -> set[str]:
    """Modules a new Python process has loaded after a statement, which may raise SystemExit."""
    program = f"""
import sys
try:
    {statement}
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", *sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(result.stdout.rpartition("loaded:")[2].split())


def vqz_bytes() -> bytes:
    from vqcodec.container import Container, Header, pack

    header = Header(5, 3, False, "tiny", bytes(8), tile=32, quality=1, levels=1)
    return pack(Container(header, {}, ((b"payload",),), indices_crc=0, complete=True))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["info", "a.vqz"],
        ["models"],
        ["completion", "zsh"],
        ["gallery", "--help"],
        ["verify", "--quick"],
        ["evaluate", "cas", "--help"],
        ["bench", "--help"],
        ["compress", "--help"],
        ["decompress", "--help"],
        ["corpus", "--help"],
        ["corpus", "tokenize", "--help"],
    ],
)
def test_quick_commands_load_no_torch(
    arguments: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a.vqz").write_bytes(vqz_bytes())
    if arguments[0] == "verify":
        arguments = [*arguments, "a.vqz"]
    loaded = loaded_after(f"from vqcodec.cli import main; main({arguments})", environment, tmp_path)
    assert "vqcodec.cli" in loaded
    assert not loaded & {"torch", "numpy", "PIL", "rich", "constriction", "vqcodec.training"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress", "a.png", "--out", "out", "--frames", "all"],
        ["decompress", "a.vqz", "--out", "out", "--format", "webp"],
    ],
)
def test_dry_runs_load_no_torch(
    arguments: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a.vqz").write_bytes(vqz_bytes())
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    statement = f"from vqcodec.cli import main; main({[*arguments, '--dry-run']})"
    loaded = loaded_after(statement, environment, tmp_path)
    assert "vqcodec.folders" in loaded
    assert not loaded & {"torch", "numba", "constriction"}


def test_package_loads_neither_torch_nor_numpy(environment: dict[str, str], tmp_path: Path) -> None:
    loaded = loaded_after("import vqcodec; vqcodec.CodecError", environment, tmp_path)
    assert "vqcodec" in loaded
    assert not loaded & {"torch", "numpy", "PIL", "click"}


def test_opening_a_file_loads_no_torch(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.vqz").write_bytes(vqz_bytes())
    loaded = loaded_after("import vqcodec; vqcodec.open('a.vqz').size", environment, tmp_path)
    assert "vqcodec.lazy" in loaded
    assert not loaded & {"torch", "numpy", "PIL"}


def test_opening_with_pillow_loads_no_torch(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.vqz").write_bytes(vqz_bytes())
    statement = (
        "import PIL.Image, vqcodec.pillow, vqcodec.imageio, imageio.v3; "
        "PIL.Image.open('a.vqz').draft(None, (1, 1)); "
        "imageio.v3.improps('a.vqz'); imageio.v3.immeta('a.vqz')"
    )
    loaded = loaded_after(statement, environment, tmp_path)
    assert "vqcodec.pillow" in loaded
    assert not loaded & {"torch", "numba", "constriction"}


def test_codec_loads_no_training(environment: dict[str, str], tmp_path: Path) -> None:
    loaded = loaded_after(
        "import vqcodec.codec, vqcodec.tiles, vqcodec.image", environment, tmp_path
    )
    assert "torch" in loaded
    assert not loaded & {"vqcodec.training", "tensorboard", "rich", "click"}


def test_lossless_files_load_no_torch(environment: dict[str, str], tmp_path: Path) -> None:
    PIL.Image.new("RGB", (9, 7), "red").save(tmp_path / "a.png")
    statement = (
        "import numpy, pathlib, PIL.Image, vqcodec, vqcodec.pillow; from vqcodec.cli import main; "
        "main(['compress', 'a.png', 'a.vqz', '--lossless', 'always'], standalone_mode=False); "
        "main(['decompress', 'a.vqz', 'b.png'], standalone_mode=False); "
        "main(['verify', 'a.vqz'], standalone_mode=False); "
        "main(['info', 'a.vqz'], standalone_mode=False); "
        "vqcodec.open('a.vqz').region(1, 2, 3, 4); vqcodec.open('a.vqz').thumbnail(4); "
        "PIL.Image.open('a.vqz').load()"
    )
    loaded = loaded_after(statement, environment, tmp_path)
    assert (tmp_path / "b.png").exists()
    assert "vqcodec.webp" in loaded
    assert not loaded & {"torch", "numba", "constriction"}


def test_decoding_needs_nothing_of_choosing(
    environment: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    from vqcodec.codec import compress

    pixels = np.full((8, 8, 3), 100, np.uint8)
    compressed = compress(pixels, lossless="never", model=tiny_model)
    (tmp_path / "a.vqz").write_bytes(bytes(compressed))
    program = (
        "import pathlib, vqcodec; "
        f"vqcodec.decompress(pathlib.Path('a.vqz').read_bytes(), model={str(tiny_model)!r})"
    )
    loaded = loaded_after(program, environment, tmp_path)
    assert "vqcodec.codec" in loaded
    assert not {name for name in loaded if within(name, "vqcodec.choosing")}


def test_every_name_of_the_package_is_there() -> None:
    for name in vqcodec.__all__:
        assert getattr(vqcodec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vqcodec.nonsense


def test_setup_lists_every_package() -> None:
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(setup["options"]["packages"].split())
    present = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "vqcodec").rglob("__init__.py")
    }
    assert listed == present | {"vqcodec.weights"}


@pytest.mark.parametrize(
    ("system", "machine", "python", "expected"),
    [
        ("linux", "x86_64", "3.10", {"constriction", "numba"}),
        ("linux", "x86_64", "3.13", {"constriction", "numba"}),
        ("linux", "aarch64", "3.10", {"numba"}),
        ("linux", "armv7l", "3.11", set()),
        ("linux", "riscv64", "3.13", set()),
        ("darwin", "arm64", "3.13", {"constriction", "numba"}),
        ("darwin", "x86_64", "3.12", {"constriction"}),
        ("win32", "AMD64", "3.10", {"constriction", "numba"}),
        ("win32", "ARM64", "3.11", set()),
        ("win32", "ARM64", "3.12", {"numba"}),
        ("freebsd14", "amd64", "3.11", set()),
    ],
)
def test_libraries_are_required_where_there_are_wheels(
    system: str, machine: str, python: str, expected: set[str]
) -> None:
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].splitlines()
    required = [Requirement(line) for line in lines if line and not line.startswith("#")]
    there = {"sys_platform": system, "platform_machine": machine, "python_version": python}
    found = {each.name for each in required if each.marker is None or each.marker.evaluate(there)}
    assert found & {"constriction", "numba"} == expected
    assert {"torch", "numpy", "safetensors"} <= found
