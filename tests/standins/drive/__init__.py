FOLDER = "folder-of-the-standin"
CLIENT, SECRET, REFRESH = "client.apps.standin", "standin-client-secret", "1//standin-refresh"
