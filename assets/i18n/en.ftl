# The window in English. Keys are sorted by where they stand on the screen. How texts are written: docs/i18n.md.
# Failures are not here: their English words are at home in station/src/failure.rs.

## Formats

format-group = ,
format-date-time = %Y-%m-%d %H:%M
format-date = %-d %B %Y
failure-with-facts = { $sentence }: { $facts }

## Pictures

picture-saved = Saved { $path }
picture-not-saved = The picture can't be saved as { $path }: { $error }

## Widgets

switch-on = On
switch-off = Off
