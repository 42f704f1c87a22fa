"""What every training and scoring stage shares: models, objectives, optimisers, batches, one loop, inference."""
