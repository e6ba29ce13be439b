"""The append-only event log: `interface` says what it promises, one file per back end keeps it."""
