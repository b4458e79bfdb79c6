// What makes the pages better where a browser runs scripts; every page works without.
