#!/usr/bin/env bash
# Installs vqcodec on an emulated aarch64 machine by one `pip install`, and compares what that
# machine and this one read and make.
#
#     benchmarks/aarch64.sh [--quick] [FOLDER]
#
# In FOLDER (a temporary one that is removed, if not told; some 2 GB) it unpacks QEMU and Debian's
# Python for arm64, and enters that as root of a namespace of its own: nothing is installed on this
# machine or changed. A FOLDER that is kept is used again. It needs Linux 6.7, whose binfmt_misc is
# of a namespace, or QEMU registered in it (Debian: qemu-user-static); Debian's apt-get, dpkg-deb and
# keyring (Ubuntu: debian-archive-keyring); and here, in .venv (or $VQCODEC_VENV), vqcodec.
#
# Every golden file is read there and here, and files made there are read here and the other way
# round (same_files.py); then the command line and the tests of golden files, matrix products and the
# range coder run there, which is also the only coder: there is no constriction for aarch64. --quick
# leaves out the tests, samples, effort 5, golden files but those of 33x31 pixels, and all processors
# but one. Exit code 1 if anything differs or fails, 2 if the machine could not be set up. TORCH,
# SUITE and CPUS may be set.
#
# The emulator takes ten to twenty times as long as the machine itself: two minutes of a processor to
# set up, of which pip takes 70 seconds, and 140 seconds for --quick. This is no part of .ci/run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../bin/environment"

torch=${TORCH:-2.9.1}  # the newest whose wheel for aarch64 is a CPU build
suite=${SUITE:-bookworm}
mirror=${MIRROR:-http://deb.debian.org/debian}
quick= cpus=${CPUS:-cortex-a72 max a64fx}
if [ "${1:-}" = --quick ]; then
    quick=1 cpus=${CPUS:-cortex-a72}
    shift
fi
if [ $# -gt 0 ]; then
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
arm=$folder/root

no_machine() {
    echo "no aarch64 machine: $*" >&2
    exit 2
}

# Debian's packages for arm64, found and fetched by an apt of its own, and laid out.
lay_out() {
    local apt=$folder/apt keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$keys" ] || no_machine "$keys is missing"
    mkdir -p "$apt"/{lists,archives}/partial "$arm"/{proc,dev,sys,tmp,etc,root} "$arm"/usr/{bin,sbin,lib}
    chmod 1777 "$arm/tmp"
    echo "deb [signed-by=$keys] $mirror $suite main" >"$apt/sources.list"
    : >"$apt/status"
    local fetch=(apt-get -qq -o "Dir::State=$apt" -o "Dir::State::status=$apt/status"
        -o "Dir::Cache=$apt" -o "Dir::Etc::sourcelist=$apt/sources.list"
        -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o APT::Install-Recommends=0 -o Acquire::Languages=none -o "APT::Sandbox::User=$(id -un)")
    if command -v qemu-aarch64-static >/dev/null; then
        qemu=$(command -v qemu-aarch64-static)
    else
        local own=$(dpkg --print-architecture)
        "${fetch[@]}" -o "APT::Architecture=$own" update || no_machine "$mirror does not answer"
        (cd "$apt" && "${fetch[@]}" -o "APT::Architecture=$own" download qemu-user-static)
        dpkg-deb -x "$apt"/qemu-user-static_*.deb "$folder/qemu"
    fi
    local arm64=(-o APT::Architecture=arm64 -o APT::Architectures::=arm64)
    "${fetch[@]}" "${arm64[@]}" update || no_machine "$mirror does not answer"
    "${fetch[@]}" "${arm64[@]}" -y --download-only install \
        coreutils dash libgomp1 libstdc++6 python3 python3-distutils python3-venv
    for each in bin sbin lib; do ln -sfn "usr/$each" "$arm/$each"; done
    for each in "$apt"/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$each" |
            tar -x --no-same-owner --keep-directory-symlink -C "$arm"
    done
    touch "$folder/laid-out"
}

# Runs a command there, as root of a namespace in which QEMU runs what is for aarch64.
there() {
    unshare --user --map-root-user --mount --pid --fork --kill-child bash -c '
        set -eu
        root=$1 qemu=$2
        shift 2
        if ! [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
            mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
            elf="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
            mask="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
            printf %s ":qemu-aarch64:M::$elf:$mask:$qemu:F" >/proc/sys/fs/binfmt_misc/register
        fi
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --rbind /sys "$root/sys"
        exec chroot "$root" "$@"' - "$arm" "$qemu" /usr/bin/env -i PATH=/venv/bin:/usr/bin \
        HOME=/root LC_ALL=C.UTF-8 OMP_NUM_THREADS=1 QEMU_CPU="${cpu:-max}" \
        VQCODEC_KERNELS="${kernels:-torch}" ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} "$@"
}

failed=()
check() {
    echo "== $*" >&2
    "$@" || failed+=("${cpu:+$cpu: }$*")
}

[ -e "$folder/laid-out" ] || lay_out
[ -n "${qemu:-}" ] || qemu=$(command -v qemu-aarch64-static || echo "$folder/qemu/usr/bin/qemu-aarch64-static")
there uname -m >/dev/null || no_machine "QEMU cannot be registered in a namespace; install qemu-user-static"

# Names, certificates, and what is to be run.
cp -L /etc/resolv.conf /etc/hosts "$arm/etc/"
mkdir -p "$arm/etc/ssl/certs" "$arm/src" "$arm/dist"
cp -L "${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}" "$arm/etc/ssl/certs/ca-certificates.crt"
rm -rf "$arm"/src/* "$arm"/dist/* "$root/build/lib"
cp -r "$root"/{tests,benchmarks,pyproject.toml} "$arm/src/"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$arm/dist" "$root"
wheel=/dist/$(basename "$arm"/dist/*.whl)
if [ ! -e "$folder/installed" ]; then
    there python3 -m venv /venv
    there pip install --quiet --no-compile "torch==$torch" "$wheel" pytest pytest-timeout hypothesis \
        --cert /etc/ssl/certs/ca-certificates.crt || no_machine "pip install failed"
    touch "$folder/installed"
else
    there pip install --quiet --no-compile --no-deps --force-reinstall "$wheel"
fi

export OMP_NUM_THREADS=1
asked=(--effort 1 --effort 5)
[ -z "$quick" ] || asked=(--effort 1 --only 33x31 --no-sample)
here=$folder/here
rm -rf "$here" "$arm"/out
"$python" "$root/benchmarks/same_files.py" record "$here" "${asked[@]}"
mkdir "$arm/out"
cp -r "$here" "$arm/out/here"
for cpu in $cpus; do
    made=$folder/read-$cpu
    check there python /src/benchmarks/same_files.py record "/out/$cpu" --files /out/here "${asked[@]}"
    check "$python" "$root/benchmarks/same_files.py" record "$made" --files "$arm/out/$cpu" "${asked[@]}"
    check "$python" "$root/benchmarks/same_files.py" compare "$made" "$arm/out/$cpu"
done
check there vqcodec verify /out/here/made/effort1-q43.vqz
check there vqcodec decompress --force /out/here/made/effort1-q43.vqz /out/a.png
check there vqcodec compress --force --effort 1 /out/a.png /out/a.vqz
if [ -z "$quick" ]; then
    for kernels in torch numba; do
        check there pytest -q -p no:cacheprovider -c /src/pyproject.toml -o timeout=6000 \
            -m "not slow" /src/tests/golden /src/tests/unit/entropy/test_gemm.py \
            /src/tests/unit/entropy/test_range_coder.py /src/tests/unit/kernels/test_tile.py
    done
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "aarch64 reads and makes the same"
