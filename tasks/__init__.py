"""Prefect tasks: short bodies that join weathervane to DVC and MLflow, and the adapters that they share."""
