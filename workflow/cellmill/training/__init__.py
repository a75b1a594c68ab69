"""Parts of network training: sampling, augmentation, targets, losses, steps, validation, checkpoints, several GPUs."""
