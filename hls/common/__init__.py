"""What every floor uses: limits, schemas of what is read, notices, files that are whole or not there."""
