//! Builds what stands before the C libraries, where the feature `native` asks for them.

fn main() {
    println!("cargo:rerun-if-changed=native/peers.c");
    if std::env::var_os("CARGO_FEATURE_NATIVE").is_some() {
        cc::Build::new().file("native/peers.c").opt_level(3).compile("peers");
        for library in ["spandsp", "speexdsp", "soxr", "avcodec", "avutil", "swresample", "srtp2", "dl"] {
            println!("cargo:rustc-link-lib={library}");
        }
    }
}
