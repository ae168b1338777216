"""`vqcodec corpus`, as a process that is killed, and on clusters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpora
import pytest
from conftest import Run

from vqcodec import codec, image
from vqcodec.corpus import plan as plans
from vqcodec.corpus import verification
from vqcodec.corpus.store import open_store

QUICK = ["--lossless", "always", "--strip"]
GOOD = corpora.pictures(9)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return corpora.write(tmp_path / "photos", GOOD | corpora.BROKEN)


def faults(folder: Path, **options: Any) -> list[str]:
    plan = plans.read(open_store(str(folder)))
    assert plan is not None
    return [line for found in verification.verify(plan, **options) for line in found.faults]


def test_what_it_prints(run: Run, source: Path, tmp_path: Path) -> None:
    first = run("corpus", "compress", "photos", "small", "--workers", "0", *QUICK)
    assert first.returncode == 1
    errors = first.stderr.decode().splitlines()
    assert len(errors) == len(corpora.BROKEN)
    assert "vqcodec: error: broken/empty: is empty; name a picture" in errors
    lines = dict(line.split(maxsplit=1) for line in first.stdout.decode().splitlines()[:3])
    assert lines == {"images": "9", "failed": "3", "before": "0"}
    again = run("corpus", "compress", "photos", "small", "--workers", "0", *QUICK, "--json")
    assert again.returncode == 1
    found = json.loads(again.stdout)
    assert (found["images"], found["failed"], found["before"]) == (9, 3, 12)
    assert again.stderr == b""

    verified = run("corpus", "verify", "small", "--source", "photos", "--deep")
    assert (verified.returncode, verified.stderr) == (0, b"")
    (tmp_path / "small/000.vqz").unlink()
    verified = run("corpus", "verify", "small", "--json")
    assert verified.returncode == 1
    assert json.loads(verified.stdout)["faults"] == 1
    assert b"small/000.vqz" in verified.stderr or b"000" in verified.stderr


def test_all_is_well(run: Run, tmp_path: Path) -> None:
    corpora.write(tmp_path / "photos", GOOD)
    done = run("corpus", "compress", "photos", "small", "--workers", "0", *QUICK)
    assert (done.returncode, done.stderr) == (0, b"")
    back = run("corpus", "decompress", "small", "back", "--workers", "0", "--to", "webp")
    assert back.returncode == 0
    assert len(list((tmp_path / "back").rglob("*.webp"))) == 9


def test_tokens(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    corpora.write(tmp_path / "photos", GOOD)
    asked = ["--workers", "0", "--model", tiny_model]
    asked_of_tokens = [*asked, "--bits", "--format", "webdataset", "--quality", "2"]
    assert run("corpus", "tokenize", "photos", "tokens", *asked_of_tokens).returncode == 0
    assert run("corpus", "detokenize", "tokens", "small", "--to", "vqz", *asked).returncode == 0
    picture = image.load(GOOD["000.png"])
    expected = codec.compress(picture, quality=2, effort=1, lossless="never", model=tiny_model)
    assert (tmp_path / "small/000.vqz").read_bytes() == expected.data


def test_wrong_usage(run: Run, source: Path) -> None:
    both = run("corpus", "compress", "photos", "small", "--quality", "1", "--bpp", "1")
    assert both.returncode == 2
    size = run("corpus", "tokenize", "photos", "small", "--pixels", "64", "--bits")
    assert b"WxH" in size.stderr
    target = run("corpus", "tokenize", "photos", "small", "--pixels", "64x64", "--bpp", "1")
    assert target.returncode == 2
    none = run("corpus", "verify", "photos")
    assert none.stderr == b"vqcodec: error: photos: is no corpus; name the DST of a run\n"
    vqz = run("corpus", "decompress", "photos", "small", "--to", "vqz")
    assert vqz.returncode == 1
    nowhere = run("corpus", "compress", "nowhere", "small", *QUICK)
    assert b"no such folder" in nowhere.stderr
    assert nowhere.returncode == 1


def test_memory_is_one_process(run: Run, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="extra corpus")
    files = fsspec.filesystem("memory")
    files.pipe_file(f"{tmp_path}/photos/a.png", GOOD["000.png"])
    url = f"memory://{tmp_path}"
    assert run("corpus", "compress", f"{url}/photos", f"{url}/small", *QUICK).returncode == 0
    assert files.cat_file(f"{tmp_path}/small/a.vqz")[:4] == b"\x89VQZ"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_and_files_of_the_folder_mode(
    process: Run, run: Run, source: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """One, two and three workers give the bytes that `compress` does, with every way to end."""
    options = ["--model", tiny_model, "--effort", "2", "--lossless", "never"]
    for workers in (1, 2, 3):
        target = f"by-{workers}"
        asked = ["corpus", "compress", "photos", target, "--workers", workers, *options]
        assert process(*asked).returncode == 1
        assert faults(tmp_path / target) == []
    made = corpora.made(tmp_path / "by-1")
    assert corpora.made(tmp_path / "by-2") == made
    assert corpora.made(tmp_path / "by-3") == made
    run("compress", "photos", "--out", "plain", "--recursive", *options)
    made.pop("errors.csv")
    assert corpora.files(tmp_path / "plain") == made


class Killed:
    """A run that is killed and started again, and the run that is not."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "vqcodec", "corpus", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(self, *arguments: object) -> int:
        """The exit code."""
        running = self.start(*arguments)
        running.communicate()
        return running.returncode

    def children(self, pid: int) -> list[int]:
        """Those that work."""
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        found = [int(each) for path in tasks for each in path.read_text().split()]
        return [
            each for each in found if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
        ]


def wait_for(path: Path, pattern: str, count: int, run: subprocess.Popen[bytes]) -> None:
    """Until a folder has so many files, or the run has ended."""
    while run.poll() is None and len(list(path.glob(pattern))) < count:
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
def test_kills_of_driver_and_workers(
    environment: dict[str, str], tmp_path: Path, tiny_model: Path
) -> None:
    corpora.write(tmp_path / "photos", corpora.pictures(90) | corpora.BROKEN)
    options = ["--model", tiny_model, "--effort", "2", "--lossless", "never", "--shard-size", 40]
    options += ["--workers", 2, "--format", "webdataset"]
    killed = Killed(tmp_path, environment)
    assert killed.finish("compress", "photos", "whole", *options) == 1
    done = 0
    for kill in range(6):
        running = killed.start("compress", "photos", "small", *options)
        wait_for(tmp_path / "small/_vqcodec", "parts/*/*.tar", 1, running)
        done = len(list((tmp_path / "small/_vqcodec").glob("*/*/*.tar")))
        wait_for(tmp_path / "small/_vqcodec", "*/*/*.tar", done + 2, running)
        if kill % 2 and running.poll() is None:
            for child in killed.children(running.pid)[:1]:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.5)
        running.kill()
        _, errors = running.communicate()
        assert b"Traceback" not in errors
    assert killed.finish("compress", "photos", "small", *options) == 1
    assert faults(tmp_path / "small", deep=False) == []
    assert corpora.made(tmp_path / "small") == corpora.made(tmp_path / "whole")


RAY_PATIENCE = {"RAY_raylet_start_wait_time_s": "300", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_gives_the_same_bytes(
    environment: dict[str, str], source: Path, tmp_path: Path, tiny_model: Path
) -> None:
    pytest.importorskip("ray", reason="extra corpus")
    options = ["--model", str(tiny_model), "--effort", "1", "--lossless", "never"]
    options += ["--shard-size", "5", "--workers", "2", "--format", "webdataset"]
    program = [sys.executable, "-m", "vqcodec", "corpus", "compress", "photos"]
    for engine in ("local", "ray"):
        done = subprocess.run(
            [*program, engine, "--engine", engine, *options],
            cwd=tmp_path,
            env=environment | RAY_PATIENCE,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert faults(tmp_path / "ray") == []
    assert corpora.made(tmp_path / "ray") == corpora.made(tmp_path / "local")
    again = subprocess.run(
        [*program, "ray", "--engine", "ray", *options, "--json"],
        cwd=tmp_path,
        env=environment | RAY_PATIENCE,
        capture_output=True,
        check=False,
    )
    assert json.loads(again.stdout)["before"] == 12


@pytest.fixture
def s3(tmp_path: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment in which `s3://` is a server of this machine."""
    pytest.importorskip("moto", reason="a test's requirement")
    pytest.importorskip("s3fs", reason="extra corpus")
    log = tmp_path / "server.log"
    program = [sys.executable, "-u", str(Path(corpora.__file__).with_name("s3_server.py"))]
    with open(log, "wb") as stream:
        server = subprocess.Popen(program, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        while b"http" not in log.read_bytes():
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        address = log.read_text().split()[0]
        keys = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine"}
        region = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}
        yield environment | keys | region | {"AWS_ENDPOINT_URL": address, "S3_SERVER": address}
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_s3_with_its_failures(
    s3: dict[str, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Puts and reads that fail pass; such as last end the run, which goes on when all is well."""
    import urllib.request

    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, s3[name])
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.mkdir("bucket")
    for name, content in (GOOD | corpora.BROKEN).items():
        files.pipe_file(f"bucket/photos/{name}", content)

    def fail(**how: object) -> None:
        data = json.dumps(how).encode()
        urllib.request.urlopen(urllib.request.Request(s3["S3_SERVER"] + "/fail", data)).close()

    options = ["--shard-size", "5", "--workers", "1", "--format", "webdataset", *QUICK]

    def compress(source: str, target: str) -> subprocess.CompletedProcess[bytes]:
        program = [sys.executable, "-m", "vqcodec", "corpus", "compress", source, target]
        return subprocess.run(
            [*program, *options], cwd=tmp_path, env=s3, capture_output=True, check=False
        )

    fail(method="PUT", key="parts", share=1)
    refused = compress("s3://bucket/photos", "s3://bucket/small")
    assert refused.returncode == 1
    assert b"cannot be written" in refused.stderr
    assert b"the run goes on" in refused.stderr
    assert b"Traceback" not in refused.stderr
    assert not files.exists("bucket/small/errors.csv")

    fail(share=0.05, slow=0.1)
    done = compress("s3://bucket/photos", "s3://bucket/small")
    assert done.returncode == 1, done.stderr.decode()
    assert done.stderr.count(b"error:") == len(corpora.BROKEN), done.stderr.decode()
    fail()
    assert compress("photos", "local").returncode == 1
    files.invalidate_cache()
    there = {name.removeprefix("bucket/small/") for name in files.find("bucket/small")}
    own = {name for name in there if not name.startswith("_vqcodec/")}
    assert {name: files.cat_file(f"bucket/small/{name}") for name in own} == corpora.made(
        tmp_path / "local"
    )
    assert not [name for name in there if "/parts/" in name]
    verified = subprocess.run(
        [sys.executable, "-m", "vqcodec", "corpus", "verify", "s3://bucket/small"],
        env=s3,
        capture_output=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr.decode()
