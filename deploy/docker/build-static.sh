#!/bin/sh
# Builds binaries that need nothing around them, not even a C library, and puts
# them into target/static/, where the stages `prebuilt` of the Dockerfiles and
# their stages `build` take them from.
#
#   deploy/docker/build-static.sh [mcp-authz] [demo]      default: mcp-authz
#
# STATIC_PROFILE=dev builds faster, and larger, binaries for a trial.
set -eu
cd "$(dirname "$0")/../.."

. deploy/docker/static-flags.sh
target="$CARGO_BUILD_TARGET"
case "$target" in
*-linux-gnu) ;;
*)
    echo "build-static.sh: needs a Rust toolchain for Linux with the GNU C library, found $target" >&2
    exit 1
    ;;
esac

export CARGO_PROFILE_DEV_STRIP=true
mkdir -p target/static
for name in "${@:-mcp-authz}"; do
    # The demonstration is built in a hurry.
    case "$name" in
    demo) kind=example profile=dev ;;
    *) kind=bin profile="${STATIC_PROFILE:-release}" ;;
    esac
    path="${CARGO_TARGET_DIR:-target}/$target"
    case "$profile" in
    dev) path="$path/debug" ;;
    *) path="$path/$profile" ;;
    esac
    case "$kind" in
    example) path="$path/examples/$name" ;;
    bin) path="$path/$name" ;;
    esac
    cargo build --locked --profile "$profile" "--$kind" "$name"
    # A new file: the old one may be in use.
    cp "$path" "target/static/$name.new"
    mv "target/static/$name.new" "target/static/$name"
    ls -l "target/static/$name"
done
