"""The database: tables, stores over the tables, and migrations. No row leaves the package."""
