"""All settings: schemas, their composition from YAML and overrides, and the record kept beside results."""
