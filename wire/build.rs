//! Compiles the protobuf schemas without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["identity", "tunnel", "federation", "feed", "replicas"].map(|name| format!("proto/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    tonic_prost_build::configure().compile_fds(protox::compile(&files, ["proto"])?)?;
    Ok(())
}
