//! Names the commit in release builds, so that `armilla --version` tells what runs.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A development build would be compiled anew at every commit.
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    let commit = output
        .ok()
        .filter(|o| o.status.success())
        .map(|o| o.stdout)
        .unwrap_or_default();
    let commit = String::from_utf8_lossy(&commit);
    if !commit.trim().is_empty() {
        println!("cargo:rustc-env=ARMILLA_COMMIT=commit {}", commit.trim());
    }
}
