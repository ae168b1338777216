"""What only an encoder needs: the search for better indices, rate control, effort."""
