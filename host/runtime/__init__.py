"""Denoising: a model on a device, its sessions, schedules, images, and the work of several devices."""
