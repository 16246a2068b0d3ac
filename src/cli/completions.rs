//! `armilla completions`

use super::node::print_all;
use super::{Exit, command};
use clap::Args;
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  armilla completions bash > ~/.local/share/bash-completion/completions/armilla
  armilla completions zsh > \"${fpath[1]}/_armilla\"
  armilla completions fish > ~/.config/fish/completions/armilla.fish";

/// Print what makes a shell complete the verbs and options of this program
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> Exit {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "armilla", &mut script);
        print_all(&script)
    }
}
