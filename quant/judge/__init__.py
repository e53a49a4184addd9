"""How good images are: Fréchet distances, accuracies, PSNR."""
