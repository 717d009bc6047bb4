//! The `cima` program.

use std::process::ExitCode;

#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match cima::cli::run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cima: {error:#}");
            ExitCode::FAILURE
        }
    }
}
