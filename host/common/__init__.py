"""What every floor of the runtime uses: checked arguments, limits, files, words. Imports nothing above it."""
