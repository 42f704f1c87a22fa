"""What every stage stands on: artifacts, the store, the stage runner, children, tracking."""
