"""The append-only event log: `interface` says what it promises; `sqlite`, `redis` and `memory` keep it."""
