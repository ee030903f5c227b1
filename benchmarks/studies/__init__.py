"""The evidence behind the search: experiments that each run alone, print a table and write a JSON file."""
