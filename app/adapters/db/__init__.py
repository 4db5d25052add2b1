"""The database: tables, stores over them, and their migrations. No row leaves this package."""
