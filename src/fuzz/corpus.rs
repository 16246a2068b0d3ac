//! Inputs as text: one a line, in hex, `#` before a comment. They can be read in a diff, and a target is one file.

/// The inputs of a file; the error says which line is none.
pub fn parse(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let lines = text.lines().enumerate();
    let inputs = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    inputs
        .map(|(at, line)| unhex(line).ok_or(format!("line {} is not hex", at + 1)))
        .collect()
}

pub fn format(inputs: &[Vec<u8>]) -> String {
    inputs.iter().map(|input| hex(input) + "\n").collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect();
    let digits = digits?;
    let whole = digits.len().is_multiple_of(2);
    whole.then(|| {
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    })
}
