# To be read by a shell: the flags of a binary that needs nothing around it, and
# the target that they are for. With a target, they are for the binary alone and
# not for procedural macros, which cannot be static.
CARGO_BUILD_TARGET="$(rustc -vV | sed -n 's/^host: //p')"
# The linker packs the relocations of a binary that may be loaded anywhere: they
# would be a tenth of it. And functions that are alike are there once: Rust does not
# promise that they have addresses of their own.
RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs,--icf=all"
export CARGO_BUILD_TARGET RUSTFLAGS
