"""Config model, its error messages and the runs it defines. Stages do not use it; they get plain settings."""
