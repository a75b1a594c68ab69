"""The config: one closed model, its errors, its runs. No stage knows it; stages get plain settings."""
