/* What every task of this app needs: its input from $JUPITER_IN/<parent>/, its output to $JUPITER_OUT/. */
#ifndef TASK_H
#define TASK_H

#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const char *name) {
    fprintf(stderr, "%s %s: %s\n", what, name, errno ? strerror(errno) : "wrong");
    exit(1); /* a failed attempt: the job shows the last lines of stderr */
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    if (!value) die("no variable", name);
    return value;
}

/* The first file that a parent sent; NULL when the parent sent nothing. */
static FILE *from(const char *parent) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", variable("JUPITER_IN"), parent);
    DIR *folder = opendir(path);
    if (!folder) return NULL;
    struct dirent *entry;
    while ((entry = readdir(folder)) && entry->d_name[0] == '.') {
    }
    if (!entry) die("nothing in", path);
    char file[4400];
    snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
    closedir(folder);
    FILE *opened = fopen(file, "rb");
    if (!opened) die("cannot read", file);
    return opened;
}

/* A file for all children. */
static FILE *to_children(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", variable("JUPITER_OUT"), name);
    FILE *opened = fopen(path, "wb");
    if (!opened) die("cannot write", path);
    return opened;
}

#endif
