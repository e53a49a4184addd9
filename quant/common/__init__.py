"""What every floor of the quantizer uses: the options a user chooses."""
