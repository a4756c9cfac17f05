//! A text that is not shown.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

/// Not Clone, not Display; Debug is redacted; wiped on drop.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// The first line of a file, as container platforms mount secrets.
///
/// # Errors
/// A message that names the file.
pub fn read_file(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let text = Zeroizing::new(text);
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line.to_owned())),
        _ => Err(format!("{} is empty", path.display())),
    }
}
