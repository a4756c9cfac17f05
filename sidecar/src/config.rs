//! What the operator says: flags, environment, YAML.

/// A slot of the key registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Name that `kms_name` names.
    pub name: String,
    /// Who wraps.
    pub provider: Provider,
}

/// Who wraps the KEKs of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The root-key file of the database server.
    Local,
    /// AWS Secrets Manager.
    Aws,
    /// AWS KMS.
    AwsKms,
}
